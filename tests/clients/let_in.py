"""The browser of somebody who lets a command line in: opens the page that it is given, signs in with $TOKEN, approves.

Usage: let_in.py URL     (what the page says at the end is on standard output)
"""

import html.parser
import os
import sys
import urllib.parse
import urllib.request


class Page(html.parser.HTMLParser):
    """A page's forms, with their fields and buttons, and its heading."""

    def __init__(self, answer):
        super().__init__()
        self.url, self.forms, self.heading, self.in_heading = answer.url, [], "", False
        self.feed(answer.read().decode())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.forms.append((attributes["action"], {}))
        elif tag in ("input", "button") and self.forms and "name" in attributes:
            self.forms[-1][1].setdefault(attributes["name"], attributes.get("value") or "")
        elif tag == "h1":
            self.in_heading = True

    def handle_endtag(self, tag):
        self.in_heading = self.in_heading and tag != "h1"

    def handle_data(self, data):
        self.heading += data if self.in_heading else ""


browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(), urllib.request.ProxyHandler({}))


def submit(page, field, value):
    """Sends the form that has this field."""
    action, fields = next(form for form in page.forms if field in form[1])
    body = urllib.parse.urlencode({**fields, field: value}).encode()
    return Page(browser.open(urllib.request.Request(urllib.parse.urljoin(page.url, action), body)))


page = Page(browser.open(sys.argv[1]))
page = submit(page, "token", os.environ["TOKEN"])
page = submit(page, "decision", "approve")
print(" ".join(page.heading.split()))
