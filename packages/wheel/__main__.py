"""`python -m vpnshare`."""

from vpnshare import main

main()
