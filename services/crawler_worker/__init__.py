"""The crawler worker: fetches a page, or follows its links, and stores what can be read there."""
