"""What an account is: frozen records, their form in a file, what happens to them."""
