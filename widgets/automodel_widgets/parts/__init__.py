"""What panels are made of: HTML pieces, the one widget, packed columns, the static twin."""
