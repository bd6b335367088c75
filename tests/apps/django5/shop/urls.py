import os

from django.http import HttpResponse
from django.templatetags.static import static
from django.urls import path


def index(request):
    version = os.environ.get("HEROKU_RELEASE_VERSION", "v0")
    return HttpResponse(f'<link rel="stylesheet" href="{static("shop/shop.css")}"><h1>shop {version}</h1>')


urlpatterns = [path("", index)]
