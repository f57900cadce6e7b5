"""The portal's REST API as Python: asynchronous, with a synchronous face, and a fake for tests."""

from cupola.client._async import AsyncClient
from cupola.client._environment import from_environment
from cupola.client._sync import Client

__all__ = ["AsyncClient", "Client", "from_environment"]
