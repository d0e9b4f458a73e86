"""What the lab does: state, files and providers put to work. Synchronous throughout; async lives in `server/`."""
