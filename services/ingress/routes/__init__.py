"""The paths of the ingress: parse, call one function, answer."""
