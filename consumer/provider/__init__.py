"""The weather provider: its port, the OpenWeather adapter, and the HTTP client underneath."""
