"""`manage.py doctor`: is this installation whole? Every part is looked at, whatever else is broken."""
