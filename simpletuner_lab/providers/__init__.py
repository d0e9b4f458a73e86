"""Places where jobs run. Each module is one provider, found through the entry points `simpletuner_lab.providers`."""
