"""How the gradients of several tasks are combined into one, by their inner products."""
