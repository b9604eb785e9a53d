"""`python -m car_or_truck` is the command `car-or-truck`."""

from car_or_truck.cli import main

main()
