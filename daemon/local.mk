# The program is listed once its sources are there.
