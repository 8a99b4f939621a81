"""Numbers about models and samples, and how they were computed."""
