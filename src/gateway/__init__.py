"""A request from end to end: admission, attempts, response and trace."""
