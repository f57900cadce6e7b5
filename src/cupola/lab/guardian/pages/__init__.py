"""What pages ask and are told: the websocket, news of an absence, losses."""
