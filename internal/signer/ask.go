package signer

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	externaljwt "k8s.io/externaljwt/apis/v1"

	"oidc-provider/internal/hint"
)

// Ask calls any external JWT signer at a Unix socket, @NAME for an abstract one,
// as kube-apiserver does when it starts. It requests no signature.
func Ask(ctx context.Context, socket string) (*externaljwt.MetadataResponse, *externaljwt.FetchKeysResponse, error) {
	// gRPC would parse the path as a URL, and might use a proxy.
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	conn, err := grpc.NewClient("passthrough:///localhost",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
	if err != nil {
		return nil, nil, fmt.Errorf("signer socket %s: %w", socket, err)
	}
	defer conn.Close()
	client := externaljwt.NewExternalJWTSignerClient(conn)
	metadata, err := client.Metadata(ctx, &externaljwt.MetadataRequest{})
	if err != nil {
		return nil, nil, hint.Errorf("check that it is running, that you have permission to open the socket, and, if it is "+
			"oidc-provider, that {signerUIDs} of its server has your user",
			"calling the signer at %s: %w", socket, err)
	}
	keys, err := client.FetchKeys(ctx, &externaljwt.FetchKeysRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("fetching the keys of the signer at %s: %w", socket, err)
	}
	return metadata, keys, nil
}
