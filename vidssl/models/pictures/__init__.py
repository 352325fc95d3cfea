"""Networks that draw pictures from features or codes, and that judge them."""
