"""A study: one YAML file, the stages it asks for in their order, and a run folder that can be resumed at any moment."""
