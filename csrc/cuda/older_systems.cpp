// The static CUDA runtime calls functions that glibc 2.34 took over from libdl, libpthread and librt: linked on such a
// system, a library asks for that version, of functions that all have. Here each is a jump to the one of old, which torch
// loads those libraries for where they are still apart.
#include <features.h>

#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(
    ".pushsection .text\n"
    ".macro call_any_glibc function, version\n"
    ".symver any_glibc_\\function, \\function@GLIBC_\\version\n"
    ".globl \\function\n"
    ".hidden \\function\n"
    ".type \\function, @function\n"
    "\\function: jmp any_glibc_\\function@PLT\n"
    ".endm\n"
    "call_any_glibc dlmopen, 2.3.4\n"
    ".irp function, dlclose, dlerror, dlopen, dlsym, dlvsym, shm_open, shm_unlink, sem_destroy, sem_init, sem_post, "
    "sem_timedwait, sem_trywait, sem_wait, pthread_condattr_setpshared, pthread_create, pthread_detach, "
    "pthread_getspecific, pthread_join, pthread_key_create, pthread_key_delete, pthread_kill, pthread_mutex_trylock, "
    "pthread_mutexattr_destroy, pthread_mutexattr_init, pthread_mutexattr_setpshared, pthread_mutexattr_settype, "
    "pthread_once, pthread_rwlock_destroy, pthread_rwlock_init, pthread_rwlock_rdlock, pthread_rwlock_timedrdlock, "
    "pthread_rwlock_timedwrlock, pthread_rwlock_tryrdlock, pthread_rwlock_trywrlock, pthread_rwlock_unlock, "
    "pthread_rwlock_wrlock, pthread_rwlockattr_destroy, pthread_rwlockattr_init, pthread_rwlockattr_setpshared, "
    "pthread_setspecific, pthread_spin_destroy, pthread_spin_init, pthread_spin_lock, pthread_spin_trylock, "
    "pthread_spin_unlock\n"
    "call_any_glibc \\function, 2.2.5\n"
    ".endr\n"
    ".purgem call_any_glibc\n"
    ".popsection\n");
#endif
