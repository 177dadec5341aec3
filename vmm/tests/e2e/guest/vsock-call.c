/* Calls a vsock port of the host, sends a line and prints the answer: `vsock-call PORT`. */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST };
	char answer[64];
	ssize_t count;
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (argc != 2 || fd < 0)
		return 2;
	host.svm_port = strtoul(argv[1], NULL, 10);
	if (connect(fd, (struct sockaddr *)&host, sizeof(host)) < 0) {
		perror("connect");
		return 1;
	}
	if (write(fd, "call\n", 5) != 5)
		return 3;
	while ((count = read(fd, answer, sizeof(answer))) > 0)
		fwrite(answer, 1, count, stdout);
	return 0;
}
