package signer

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	externaljwt "k8s.io/externaljwt/apis/v1"
)

// Ask asks the external JWT signer at a Unix socket (@NAME for an abstract
// one), whoever's it is, what kube-apiserver asks when it starts. It has
// nothing signed.
func Ask(ctx context.Context, socket string) (*externaljwt.MetadataResponse, *externaljwt.FetchKeysResponse, error) {
	// A path is no URL, as gRPC would have it, and there is no proxy to it.
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	conn, err := grpc.NewClient("passthrough:///localhost", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
	if err != nil {
		return nil, nil, fmt.Errorf("signer socket %s: %w", socket, err)
	}
	defer conn.Close()
	client := externaljwt.NewExternalJWTSignerClient(conn)
	metadata, err := client.Metadata(ctx, &externaljwt.MetadataRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("asking the signer at %s: %w (hint: is it running, and may you open the socket?)", socket, err)
	}
	keys, err := client.FetchKeys(ctx, &externaljwt.FetchKeysRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("asking the signer at %s for its keys: %w", socket, err)
	}
	return metadata, keys, nil
}
