"""What a cluster needs before the processes can start: secrets, as values, files and objects."""
