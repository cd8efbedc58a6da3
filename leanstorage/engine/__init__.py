"""The app's engine: its hooks and cloud functions, and how it is reached."""
