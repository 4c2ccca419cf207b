"""What the HTML reports share: their style, and how templates are filled in."""
