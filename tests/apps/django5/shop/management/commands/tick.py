import itertools
import time

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Prints a line every second."

    def handle(self, *args, **options):
        for n in itertools.count(1):
            self.stdout.write(f"tick {n}")
            self.stdout.flush()
            time.sleep(1)
