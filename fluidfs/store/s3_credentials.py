"""Credentials where boto3 looks for them, as values, with one clear error when there are none."""

from __future__ import annotations

from typing import Protocol

from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from fluidfs.errors import CredentialsMissing
from fluidfs.store.base import Credentials

# What botocore calls its sources, in words of the person who set them.
_ORIGINS = {
    "env": "AWS_ACCESS_KEY_ID",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the AWS configuration file",
    "assume-role": "an assumed role",
    "assume-role-with-web-identity": "a web identity",
    "sso": "single sign-on",
    "container-role": "the container's role",
    "iam-role": "the instance's role",
    "custom-process": "credential_process",
    "explicit": "the program",
}


class CredentialSource(Protocol):
    """Where signatures come from."""

    def current(self) -> Credentials | None:
        """The credentials of this moment; None: do not sign. Raises CredentialsMissing."""
        ...

    @property
    def origin(self) -> str:
        """Where they were found, in words."""
        ...


class Unsigned:
    """For public buckets: nothing is signed."""

    origin = "--anonymous"

    def current(self) -> Credentials | None:
        """None."""
        return None


class BotocoreChain:
    """The chain of boto3: environment, profiles, SSO, web identity, container and instance roles; refreshed.

    Thread-safe: botocore locks its refresh. The chain is walked once; a process that was started without credentials
    looks again on the next request.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def origin(self) -> str:
        """Where they were found, in words."""
        found = self._session.get_credentials()
        method = "" if found is None else str(found.method)
        return _ORIGINS.get(method, method or "nowhere")

    def current(self) -> Credentials:
        """The credentials of this moment, refreshed if they are about to expire. Raises CredentialsMissing."""
        try:
            found = self._session.get_credentials()
            if found is None:
                raise CredentialsMissing(
                    "no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                    "or pass --profile; --anonymous for a public bucket"
                )
            frozen = found.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise CredentialsMissing(f"the credentials cannot be had: {' '.join(str(error).split())}") from error
        if not frozen.access_key or not frozen.secret_key:
            raise CredentialsMissing("the credentials found are incomplete: an access key and a secret key are needed")
        # botocore has no public name for the expiry; without it, credentials count as lasting and are asked for anew.
        expiry = getattr(found, "_expiry_time", None)
        expires_at = None if expiry is None else float(expiry.timestamp())
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, expires_at)
