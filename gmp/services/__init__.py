"""What programs switch on beside their own work. Uses the public API only; nothing starts by being imported."""
