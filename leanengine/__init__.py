"""What the SDK and the platform need: settings, guards around the SDK, cache, server, local services."""
