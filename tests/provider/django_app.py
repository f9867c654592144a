"""What the test provider django_server.py answers: the toolkit's own views, a protected resource, and a stand-in."""

import json
import uuid
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.decorators import protected_resource
from oauth2_provider.models import AccessToken, Application, RefreshToken
from oauth2_provider.settings import oauth2_settings
from oauth2_provider.views import RevokeTokenView, TokenView
from oauthlib.common import generate_token


@protected_resource(scopes=["read"])
def _me(request: HttpRequest) -> JsonResponse:
    name = request.resource_owner.get_username()
    return JsonResponse({"sub": name, "email": name})


def me(request: HttpRequest) -> HttpResponseBase:
    """Tell whose access token this is. A bad one is 401 by RFC 6750 §3.1, where the toolkit's decorator says 403."""
    response = _me(request)
    if response.status_code != 403:
        return response
    challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return JsonResponse({"error": "invalid_token"}, status=401, headers=challenge)


def grant(request: HttpRequest) -> JsonResponse:
    """Mint what a sign-in in a browser would have: an access token and the refresh token that goes with it."""
    user, _ = get_user_model().objects.get_or_create(username=json.loads(request.body)["account"])
    lifetime = int(oauth2_settings.ACCESS_TOKEN_EXPIRE_SECONDS)
    common = {"user": user, "application": Application.objects.get()}
    access = AccessToken.objects.create(
        **common, token=generate_token(), scope="read", expires=timezone.now() + timedelta(seconds=lifetime)
    )
    refresh = RefreshToken.objects.create(
        **common, token=generate_token(), access_token=access, token_family=uuid.uuid4()
    )
    return JsonResponse(
        {
            "access_token": access.token,
            "refresh_token": refresh.token,
            "token_type": "Bearer",
            "expires_in": lifetime,
            "scope": "read",
        }
    )


urlpatterns = [
    path("token", csrf_exempt(TokenView.as_view())),
    path("token/revocation", csrf_exempt(RevokeTokenView.as_view())),
    path("me", me),
    path("admin/grant", csrf_exempt(grant)),
]
