"""The emulator moto, with an action of IAM that it lacks (as of version 5.2.1)."""

import sys

from moto.core.responses import EmptyResult
from moto.iam.responses import IamResponse
from moto.server import main


def add_client_id_to_open_id_connect_provider(self):
    """What is there already is no error, as in IAM."""
    provider = self.backend.get_open_id_connect_provider(self._get_param("OpenIDConnectProviderArn"))
    client_id = self._get_param("ClientID")
    if client_id not in provider.client_id_list:
        provider.client_id_list.append(client_id)
    return EmptyResult()


if not hasattr(IamResponse, "add_client_id_to_open_id_connect_provider"):
    IamResponse.add_client_id_to_open_id_connect_provider = add_client_id_to_open_id_connect_provider

main(sys.argv[1:])
