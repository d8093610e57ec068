package main

import "jail/internal/admin"

const disableUsage = `    disable JAIL | LOGIN [--login] [--message TEXT]
                              keep new sessions out, and tell users why
    enable JAIL | LOGIN [--login]
                              let them in again
`

func (c *common) disable(verb string, args []string) error {
	fs := c.flags(verb)
	login := fs.Bool("login", false, "")
	message := new(string)
	if verb == "disable" {
		message = fs.String("message", "", "")
	}
	names, err := c.finish(fs, verb, args, 1)
	if err != nil {
		return err
	}
	if verb == "disable" {
		return admin.Disable(c.admin(), names[0], *message, *login)
	}
	return admin.Enable(c.admin(), names[0], *login)
}
