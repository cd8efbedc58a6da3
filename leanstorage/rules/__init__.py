"""The rules of the API, without any request."""
