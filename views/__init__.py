"""What people look at: latest values, view topics, the page and its feed."""
