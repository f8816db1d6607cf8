"""How the losses of several tasks are combined into one."""
