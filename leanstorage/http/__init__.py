"""HTTP: the WSGI application, credentials, routes, the server."""
