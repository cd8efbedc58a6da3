"""What the API's routes do, one module for each kind of thing."""
