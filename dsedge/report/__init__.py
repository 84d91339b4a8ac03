"""What people read: tables in the terminal, and the report of a bundle as one HTML file."""
