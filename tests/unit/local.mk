# tests/unit: programs linked with tests/libebbcore.la, run without the preload.
