"""Whom the server calls by itself: SMS gateways, mail servers, third parties. Loaded only where an option names one."""
