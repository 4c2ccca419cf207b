"""The services that Tagmill needs: database, broker, model store."""
