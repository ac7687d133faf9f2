"""Where credentials are found, and never what they are."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError
from botocore.session import Session

from fluidfs.doctor.check import Check
from fluidfs.errors import CredentialsMissing
from fluidfs.store.s3_credentials import BotocoreChain


def credentials_check(*, profile: str | None, anonymous: bool, needed: bool) -> Check:
    """Whether the chain of boto3 finds credentials. Without any, only `needed` ones are a failure."""
    if anonymous:
        return Check("credentials", "ok", "none wanted: requests are not signed (--anonymous)")
    try:
        chain = BotocoreChain(Session(profile=profile))
        chain.current()
        return Check("credentials", "ok", f"found in {chain.origin}")
    except CredentialsMissing as error:
        return Check("credentials", "fail" if needed else "warn", "none found", error.message)
    except BotoCoreError as error:
        return Check("credentials", "fail", " ".join(str(error).split()), "check --profile and ~/.aws/config")
