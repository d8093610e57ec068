;; What the tests do with TRAMP: FAR is a directory, "host" a host ssh knows.
(require 'tramp)
(setq tramp-verbose 1
      tramp-use-ssh-controlmaster-options nil
      tramp-persistency-file-name nil
      tramp-histfile-override t
      vc-handled-backends nil
      make-backup-files nil
      auto-save-default nil
      create-lockfiles nil)
(defun say (what value) (princ (format "%s: %S\n" what value)))
(let* ((far (concat "/ssh:host:" (getenv "FAR") "/"))
       (file (concat far "it's ü \"x\"")))
  (write-region "one\ntwo ü\n" nil file nil 'quiet)
  (with-temp-buffer
    (insert-file-contents file)
    (say "read" (buffer-string)))
  (let ((noise (concat far "noise"))
        (coding-system-for-write 'binary)
        (text (apply #'unibyte-string (mapcar (lambda (i) (% (* i 7) 256)) (number-sequence 1 200000)))))
    (write-region text nil noise nil 'quiet)
    (with-temp-buffer
      (set-buffer-multibyte nil)
      (let ((coding-system-for-read 'binary)) (insert-file-contents noise))
      (say "noise" (equal (buffer-string) text))))
  (make-directory (concat far "a/b") t)
  (copy-file file (concat far "a/copy"))
  (rename-file (concat far "a/copy") (concat far "a/b/moved"))
  (set-file-modes file #o640)
  (make-symbolic-link "b/moved" (concat far "a/link"))
  (say "modes" (file-modes file))
  (say "list" (sort (directory-files (concat far "a")) #'string<))
  (say "link" (file-symlink-p (concat far "a/link")))
  (say "exists" (list (file-exists-p (concat far "nosuch")) (file-directory-p (concat far "a")) (file-executable-p file)))
  (let ((default-directory (concat far "a/")))
    (say "process" (with-temp-buffer (list (process-file "cat" nil t nil "b/moved") (buffer-string))))
    (say "status" (process-file "sh" nil nil nil "-c" "exit 7"))
    (say "shell" (shell-command-to-string "echo \"$0\" | wc -l; pwd | sed 's/.*\\///'"))
    (let* ((said "")
           (process (start-file-process "tty" nil "sh" "-c" "read x; echo got $x; exit 3")))
      (set-process-filter process (lambda (_ text) (setq said (concat said text))))
      (set-process-sentinel process #'ignore)
      (process-send-string process "typed at once\n")
      (while (accept-process-output process 10))
      (say "asynchronous" (and (string-match "got typed at once" said) t))))
  (delete-directory (concat far "a") t)
  (condition-case e (insert-file-contents (concat far "nosuch"))
    (error (say "missing" (car e)))))
