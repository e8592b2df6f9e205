"""An HTTP API over the models of a server; needs fastapi, uvicorn and prometheus-client."""
