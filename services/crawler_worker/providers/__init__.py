"""Who fetches the pages: this process, or a crawler API."""
