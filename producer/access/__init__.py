"""Access to the API: who sends a request, what that client may do and how much of it. It knows no endpoint's work."""
