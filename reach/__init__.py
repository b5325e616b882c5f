"""How a gateway is found and reached besides an address: by a cable, by its announcement."""
