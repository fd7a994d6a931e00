// Command etcd is a member of an etcd that serves a test: alone, or one of
// those that --cluster names.
//
// It is a process of its own, so that the API server's store outlives the API
// server, so that it can be killed and paused, and so that the test binary links
// neither etcd nor Kubernetes.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	dir := flags.String("dir", "", "data directory")
	client := flags.String("client", "", "address that clients connect to")
	peer := flags.String("peer", "", "address for peers; etcd insists on one, even alone")
	name := flags.String("name", embed.DefaultName, "name of the member in --cluster")
	members := flags.String("cluster", "", "NAME=http://ADDRESS of the members, with commas between them: where peers connect to each")
	if err := flags.Parse(args); err != nil {
		return err
	}

	c := config(*dir, *client, *peer)
	if *members != "" {
		if err := join(c, *name, *members); err != nil {
			return err
		}
	}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	defer e.Close()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-stop:
		return nil
	case err := <-e.Err():
		return err
	}
}

func config(dir, client, peer string) *embed.Config {
	c := embed.NewConfig()
	c.Dir = dir
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: client}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: peer}}
	c.AdvertisePeerUrls = c.ListenPeerUrls
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.LogLevel = "warn"
	// Left at zero, every request counts as slow and is logged.
	c.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	// No test survives a power cut, and a slow disk must not slow the tests.
	c.UnsafeNoFsync = true
	return c
}

// join makes the member one of several. Where its peers connect to need not be
// where it listens: there may be a proxy between.
func join(c *embed.Config, name, members string) error {
	all, err := types.NewURLsMap(members)
	if err != nil {
		return err
	}
	c.Name, c.InitialCluster, c.AdvertisePeerUrls = name, members, all[name]
	return nil
}
