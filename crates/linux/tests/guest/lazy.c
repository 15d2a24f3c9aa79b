/* Sleeps three times, then while a child sleeps and ends: a hart with nothing to do stays where it was. */
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    for (int i = 0; i < 3; i++)
        usleep(1000);
    if (!fork()) {
        usleep(1000);
        _exit(0);
    }
    usleep(100000);
    wait(NULL);
    return 0;
}
