"""`python -m doctor URL`."""

from doctor.command import command

if __name__ == "__main__":
    command(prog_name="doctor")
