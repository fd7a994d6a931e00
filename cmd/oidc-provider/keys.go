package main

import "github.com/spf13/cobra"

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, show and change the keys in a store",
		Long: `Make, show and change the keys in a store.

These commands work on the store itself. A server that runs on it notices every
change within two seconds.`,
		Args: exactArgs(),
		RunE: showHelp,
	}
	cmd.AddCommand(newKeysInitCommand(), newKeysListCommand(), newKeysRotateCommand(), newKeysRevokeCommand(),
		newKeysImportCommand(),
		newKeysPolicyCommand(), newKeysCopiesCommand(), newKeysBackupCommand(),
		newKeysRestoreCommand(), newKeysRepairCommand(), newKeysResealCommand(), newKeysSignCommand(), newKeysWritersCommand(),
		newKeysRBACCommand())
	return cmd
}
