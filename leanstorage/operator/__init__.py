"""What an operator does and sees: health, metrics, users, classes, backups."""
