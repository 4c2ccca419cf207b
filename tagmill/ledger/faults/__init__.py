"""What workers lack, and what runs wait for."""
