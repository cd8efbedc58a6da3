"""Plain WSGI, without any SDK: requests and responses, files, waitress, worker processes."""
